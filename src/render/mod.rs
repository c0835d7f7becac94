//! From the files of a commit to objects and problems.
