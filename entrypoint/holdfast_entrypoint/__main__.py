"""PID 1: `python -I -u -m holdfast_entrypoint`."""

from holdfast_entrypoint.cli import main

if __name__ == "__main__":
    main()
