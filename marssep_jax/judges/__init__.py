"""Published networks as judges: nothing here was trained by any of our stages.

A judge that the same code trained may share its maker's blind spots. These two were
trained by others, for other ends, on other recordings; their weights are read out of
installed packages as files and never imported. A network only hears (`aisfx.embed`,
`musicnn.embed`); what it hears is tied to a data set's classes by `probes`, fitted
on training clips.
"""
