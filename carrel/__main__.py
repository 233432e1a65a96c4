"""``python -m carrel`` is the command line."""

from carrel.app.cli import main

if __name__ == "__main__":
    main()
