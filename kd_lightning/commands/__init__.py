"""The commands that Lightning lacks, each with a ``main(args)``."""
