# SPDX-License-Identifier: Apache-2.0
"""The User Segments Export API as a protocol: nothing here does I/O, reads a clock, sleeps, or knows Airflow."""
