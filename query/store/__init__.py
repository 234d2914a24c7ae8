"""What an atlas holds: its contents, SQL, and whether it is as it was written."""
