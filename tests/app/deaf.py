"""Run as a module, it ignores SIGTERM, as a server does that is in the middle of something long."""

import signal

if __name__ == "__main__":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("listening", flush=True)
    while True:
        signal.pause()
