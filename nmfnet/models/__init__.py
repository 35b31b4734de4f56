"""One file per model; ``conf/model/*.yaml`` is the list of them."""
