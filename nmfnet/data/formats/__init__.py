"""Files and objects in memory to tables of numbers with names."""
