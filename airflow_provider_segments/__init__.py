# SPDX-License-Identifier: Apache-2.0
"""Export mParticle Analytics User Segments from Apache Airflow."""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
