# SPDX-License-Identifier: Apache-2.0
"""The command line: ``airflow user-segments`` and ``python -m airflow_provider_segments``, the same commands."""
