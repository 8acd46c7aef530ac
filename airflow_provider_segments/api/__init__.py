# SPDX-License-Identifier: Apache-2.0
"""
The User Segments Export API as a protocol: what to send, how to read the answer, when to ask again.

Nothing in here does I/O, reads a clock, sleeps, or knows Airflow. The hooks move the bytes.
"""
