"""Prints what setup.cfg requires for pip: the oldest versions, or what tests with Numba require.

Args: "constraints" or "requirements".
"""

import configparser
import re
import sys

settings = configparser.ConfigParser()
settings.read("setup.cfg")
always, extras = settings["options"]["install_requires"], settings["options.extras_require"]
if sys.argv[1] == "requirements":
    print(always, extras["test"], extras["fast"], sep="\n")
else:
    required = "\n".join([always, *extras.values()])
    floors = dict(re.findall(r"^([\w-]+)(?:\[\w+\])?>=([^\s,]+)(?:,\S+)?$", required, re.MULTILINE))
    print("\n".join(f"{name}=={version}" for name, version in floors.items()))
