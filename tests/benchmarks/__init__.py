# SPDX-License-Identifier: Apache-2.0
"""Measurements against a peer, in one run on one machine; ``make bench``."""
