"""Exit codes of the command line."""

OK = 0
PROBLEM = 1
"""The job could not be done."""
USAGE = 2
"""The command line is wrong; Click's own code."""
SOME_FAILED = 3
"""The job is finished, and some inputs have errors or some shards are missing."""
HUNG_UP = 129
"""The terminal has gone."""
INTERRUPTED = 130
TERMINATED = 143
BROKEN_PIPE = 141
"""The reader of standard output has gone."""
