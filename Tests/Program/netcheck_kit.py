"""What tests of `netcheck` share."""

import os
import re

from program import ROOT


def undocumented(report):
    """The fields of a report that docs/netcheck.md does not name; `interfaces` are described elsewhere."""
    with open(os.path.join(ROOT, "docs/netcheck.md"), encoding="utf-8") as file:
        known = set(re.findall(r"`\.?(?:paths\[\]\.)?([a-z_]+)`", file.read()))

    def names(value):
        if isinstance(value, dict):
            return set(value).union(*(names(each) for each in value.values()))
        return set().union(*(names(each) for each in value)) if isinstance(value, list) else set()

    return sorted(names({key: value for key, value in report.items() if key != "interfaces"}) - known)
