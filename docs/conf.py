# SPDX-License-Identifier: Apache-2.0
"""How Sphinx builds these pages; `make docs` runs it, without any network."""

from __future__ import annotations

import os
import tempfile

# Airflow writes a configuration where it is imported, and must not find any of the user's.
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="airflow-home-")

from airflow_provider_segments import __version__

project = "airflow-provider-segments"
version = release = __version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton", "sphinx_design"]

html_theme = "furo"
html_title = f"{project} {version}"
html_show_copyright = False
html_copy_source = False

html_static_path = ["_static"]
html_css_files = ["pages.css"]

myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3

# What programs print is copied without the prompt, and only the lines behind one.
copybutton_prompt_text = "$ "

highlight_language = "text"
default_role = "any"
nitpicky = True
# Names of others, which nothing can link to without a network, and a type variable.
nitpick_ignore_regex = [
    (
        "py:.*",
        r"(airflow_provider_segments\.operators\.(base|waiting)|_?pytest|airflow|boto3|collections|datetime|ssl|typing)\..*"
        r"|AirflowOptional\w+|T|timedelta|TriggerEvent",
    ),
]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
maximum_signature_line_length = 50
toc_object_entries_show_parents = "hide"
