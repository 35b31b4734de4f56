"""Many runs: jobs and their records, launchers, searches."""
