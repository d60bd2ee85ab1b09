"""``python -m dataset_audit`` is ``audit``."""

from dataset_audit.cli import main

if __name__ == "__main__":
    main()
