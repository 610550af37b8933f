"""The planted faults still fit the code; planting them all takes minutes."""

import pytest
from mutation_check import FAULTS, ROOT


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_faults_fit_the_code(fault):
    text = (ROOT / "trajcast_ase" / fault.file).read_text(encoding="utf-8")
    assert text.count(fault.old) == 1
    assert all((ROOT / "tests" / test).is_file() for test in fault.tests)
