//! Where desired state comes from: a bare mirror, the files of a commit, and what is written back.
