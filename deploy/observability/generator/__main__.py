"""`python deploy/observability/generator` writes the dashboards' JSON anew; with a folder, into that."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from cost import cost
from engine import engine
from fleet import fleet
from service import service
from tenants import tenants

FOLDER = Path(__file__).parents[1] / "dashboards"
DASHBOARDS = {"service": service, "engine": engine, "fleet": fleet, "tenants": tenants, "cost": cost}

if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER
    for name, board in DASHBOARDS.items():
        (folder / f"{name}.json").write_text(json.dumps(board(), indent=1, ensure_ascii=False) + "\n")
