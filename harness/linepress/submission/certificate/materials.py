"""The bill of materials of a certificate or a release: every package that the machine has, as CycloneDX 1.6 in JSON.
``python -m linepress.submission.certificate.materials`` prints it.

Names, versions and package URLs of what is installed, by the CycloneDX project's own library; no path, no host, and
the same bytes for the same packages.
"""

from __future__ import annotations

import functools
import json
import sys
from importlib import metadata


@functools.cache
def bill_of_materials() -> bytes | None:
    """The document; None where the library (``cyclonedx-python-lib``) is not installed."""
    try:
        from cyclonedx.model.bom import Bom
        from cyclonedx.model.component import Component, ComponentType
        from cyclonedx.output.json import JsonV1Dot6
        from packageurl import PackageURL
    except ModuleNotFoundError:
        return None
    found = {(dist.metadata["Name"] or "").lower(): dist.version for dist in metadata.distributions()}
    components = [
        Component(
            name=name,
            version=version,
            type=ComponentType.LIBRARY,
            bom_ref=f"{name}=={version}",
            purl=PackageURL("pypi", name=name.replace("_", "-"), version=version),
        )
        for name, version in sorted(found.items())
        if name
    ]
    document = json.loads(JsonV1Dot6(Bom(components=components)).output_as_string())
    # Different at every call, and no part of what is told.
    document.pop("serialNumber", None)
    document.get("metadata", {}).pop("timestamp", None)
    return json.dumps(document, indent=1, sort_keys=True).encode() + b"\n"


if __name__ == "__main__":
    sys.stdout.buffer.write(bill_of_materials() or sys.exit("cyclonedx-python-lib is missing; pip install linepress"))
