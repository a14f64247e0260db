"""Prints, as constraints for pip, the oldest version that setup.cfg allows of each requirement."""

import configparser
import re

settings = configparser.ConfigParser()
settings.read("setup.cfg")
required = [settings["options"]["install_requires"], *settings["options.extras_require"].values()]
floors = dict(re.findall(r"^([\w-]+)(?:\[\w+\])?>=(\S+)$", "\n".join(required), re.MULTILINE))
print("\n".join(f"{name}=={version}" for name, version in floors.items()))
