"""Runs metarl/cli/commands/report.py of this checkout, installed or not."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from metarl.cli.commands.report import main

if __name__ == "__main__":
    main()
