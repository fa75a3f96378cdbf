"""The version of batchembed, for files, servers and people."""

VERSION = "0.1.0"
