# SPDX-FileCopyrightText: cellos-telemetry contributors
# SPDX-License-Identifier: LGPL-2.1-or-later

"""install.py CMAKE BUILD PREFIX: the setup of the tests that look at an installed tree.

Installs beside PREFIX and moves the result there, so that whatever still knows the first place is
found out by those tests.
"""

import shutil
import sys
from pathlib import Path

from common import finish, run

cmake, build, prefix = sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3])
stage = prefix.with_name("stage")

for folder in (stage, prefix):
    shutil.rmtree(folder, ignore_errors=True)
run(cmake, "--install", build, "--prefix", stage)
stage.rename(prefix)

finish(f"{sum(1 for path in prefix.rglob('*') if path.is_file())} files installed")
