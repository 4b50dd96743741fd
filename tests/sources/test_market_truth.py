"""The truth file appears whole or not at all, also on a full disk; what is in it: tests of the oracle."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import h5py
import numpy as np

from bml.evaluation import oracle
from bml.sources.market_spec import Bayes
from bml.sources.synthetic import SyntheticSource, depth_rows

ROOT = Path(__file__).resolve().parents[2]
DATA = SimpleNamespace(
    symbols=("BTC", "ETH"), start=dt.date(2024, 3, 1), stop=dt.date(2024, 3, 2), reference="BTC", cadence_s=60.0
)


def market() -> SyntheticSource:
    return depth_rows(data=DATA, seed=1, levels=5, bayes=Bayes(horizon_s=(600.0, 1800.0)), mids={"ETH": 12.5})


def test_what_the_file_holds(tmp_path: Path) -> None:
    source = market()
    path = source.write_truth(tmp_path / "a" / "b")
    with h5py.File(path) as file:
        assert dict(file.attrs) == {"schema": b"bml.truth/1", "complete": 1}
        np.testing.assert_array_equal(file["grid_ns_T"], source.grid_ns_T)
        np.testing.assert_array_equal(file["regime_T"], source.paths.regime_T)
        np.testing.assert_array_equal(file["pressure_AT"], source.paths.pressure_AT)
        np.testing.assert_array_equal(file["mid_AT"], np.exp(source.paths.log_mid_AT))
        for horizon in (10, 30):
            assert file[f"proba_{horizon}_ATC"].shape == (2, 1440, 8)
            np.testing.assert_allclose(file[f"proba_{horizon}_ATC"][...].sum(axis=2), 1.0, atol=1e-12)
        mids = json.loads(file["parameters"][...].tobytes())["market"]["mids"]
    assert mids["ETH"] == 12.5
    assert oracle.ledger(path, "BTC") == ()  # a market without faults has a truth too
    assert [p.name for p in path.parent.iterdir()] == ["truth.h5"]


LIMITED = """
import resource, sys
from pathlib import Path
from bml.types import StoreError
from tests.sources.test_market_truth import market
source = market()
source.write_truth(Path(sys.argv[1]) / "fits")
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    source.write_truth(Path(sys.argv[1]))
except StoreError as error:
    print(error)
"""


def test_a_full_disk_is_an_error_of_one_line_and_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "truth.h5").write_bytes(b"older")
    for limit in (0, 3000, 100_000):
        done = subprocess.run(
            [sys.executable, "-c", LIMITED, str(tmp_path), str(limit)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""  # no traceback of HDF5's own
        (line,) = done.stdout.splitlines()
        assert line.startswith(f"cannot write {tmp_path}/truth.h5: File too large (the file takes 0.")
        assert (tmp_path / "truth.h5").read_bytes() == b"older"
        assert sorted(p.name for p in tmp_path.iterdir()) == ["fits", "truth.h5"]
