"""Handing an atlas on: as Parquet files in any place that fsspec reaches, and from there as an atlas again."""
