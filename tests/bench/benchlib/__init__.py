# SPDX-License-Identifier: BSD-3-Clause
"""Parts of scripts/bench: back ends, load generators, measuring and reporting."""
