"""Benchmarks: every figure is a ratio against a named opponent in the same run.

    python scripts/bench.py                  all of them
    python scripts/bench.py gradient mpc     the sections named: gradient, riccati, dare, batches,
                                             filters, smoother, many, fit, mpc, ilqr, studies,
                                             network, nonlinear, heat, step, closed-loop, explore,
                                             import, growth, machine
    python scripts/bench.py --quick          small sizes of all, in a minute
    python scripts/bench.py --here           with this Python, and the peers that it has

It makes an environment with all peers in .venv-bench, which needs the network once. BLAS runs on one
thread. The table is Markdown; out/bench.json has all figures, out/bench.png the growth over the
horizon. scripts/benchmarks holds the rows, with each peer in every way that we know.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"
os.environ["XLA_FLAGS"] = (
    "--xla_cpu_multi_thread_eigen=false --xla_force_host_platform_device_count=1"
)

ROOT = Path(__file__).resolve().parents[1]
SECTIONS = {
    "gradient": "linear",
    "riccati": "linear",
    "dare": "linear",
    "batches": "batches",
    "filters": "series",
    "smoother": "series",
    "many": "series",
    "fit": "series",
    "mpc": "horizons",
    "ilqr": "swingups",
    "studies": "studies",
    "network": "others",
    "nonlinear": "others",
    "heat": "others",
    "step": "others",
    "closed-loop": "others",
    "explore": "others",
    "import": "others",
    "growth": "growth",
    "machine": "machine",
}


def in_its_environment() -> None:
    """Start anew in the environment with the peers, which is made where it is missing."""
    venv = ROOT / ".venv-bench"
    if Path(sys.prefix) == venv:
        return
    setup = f'source scripts/_environment; venv={shlex.quote(str(venv))}; set_up "[bench]"'
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", setup], cwd=ROOT, check=False)
    if done.returncode:
        sys.exit("the peers cannot be installed; --here runs with this Python and what it has")
    python = str(venv / "bin" / "python")
    os.execv(python, [python, *sys.argv])


def main(arguments: list[str]) -> None:
    quick = "--quick" in arguments
    named = [word for word in arguments if word not in ("--quick", "--here")]
    unknown = sorted(set(named) - set(SECTIONS))
    if unknown:
        sys.exit(f"unknown section {', '.join(unknown)}; there are {', '.join(SECTIONS)}")
    if "--here" not in arguments:
        in_its_environment()
    run(named or list(SECTIONS), quick)


def run(sections: list[str], quick: bool) -> None:
    import json
    from importlib import import_module, metadata

    sys.path.insert(0, str(ROOT / "scripts" / "benchmarks"))
    import engine
    import growth
    import machine

    import lqrad

    def version(name: str) -> str:
        try:
            return f"{name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            return f"no {name}"

    peers = "numpy scipy jax numba statsmodels simdkalman crocoddyl control slycot osqp piqp"
    versions = ", ".join(map(version, [*peers.split(), "daqp", "casadi", "dynamax", "torch"]))
    print(f"lqrad {lqrad.__version__}, {lqrad.native.status().message}; {versions}\n")
    print("Medians of interleaved rounds, one BLAS thread; above 1 we are faster.\n")
    print(engine.HEAD, flush=True)
    records, grown = [], []
    for section in sections:
        if section in ("growth", "machine"):
            continue
        rows = getattr(
            import_module(SECTIONS[section]), section.replace("-", "_").replace("import", "import_")
        )
        for row in rows(quick):
            engine.same(row)
            record = {
                "section": section,
                **engine.timed(row, min(3, row.rounds) if quick else row.rounds),
            }
            records.append(record)
            print("\n".join(engine.lines(record)), flush=True)
    out = Path("out")
    out.mkdir(exist_ok=True)
    if "growth" in sections:
        grown = growth.measured(quick)
        print(f"\n{growth.table(grown)}")
        growth.picture(grown, out / "bench.png")
    if "machine" in sections:
        print(f"\n{machine.tables(quick)}")
    report = {"versions": versions, "rows": records, "growth": grown}
    (out / "bench.json").write_text(json.dumps(report, indent=1))
    print("\nin out/: bench.json" + (", bench.png" if grown else ""))


if __name__ == "__main__":
    main(sys.argv[1:])
