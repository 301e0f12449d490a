//! Which app serves a path.
//!
//! Owns the choice only, without any interpreter's type. What becomes of `SCRIPT_NAME` and `PATH_INFO`
//! is the gateway's decision, for which it gets the length of the prefix.

/// The app for `path`, and how many bytes of it are the app's mount point.
///
/// `mounts` are normal mount points (empty, or beginning and not ending with `/`). The longest that is the
/// path itself or is followed by `/` in it wins. What matches none goes to the first app, with a prefix of
/// no bytes, as in uWSGI. `None` only when there is no app.
pub(crate) fn route<M: AsRef<str>>(mounts: &[M], path: &[u8]) -> Option<(usize, usize)> {
    let mut best: Option<(usize, usize)> = None;
    for (index, mount) in mounts.iter().enumerate() {
        let mount = mount.as_ref().as_bytes();
        let longer = best.is_none_or(|(_, length)| mount.len() > length);
        if longer && covers(mount, path) {
            best = Some((index, mount.len()));
        }
    }
    best.or_else(|| (!mounts.is_empty()).then_some((0, 0)))
}

fn covers(mount: &[u8], path: &[u8]) -> bool {
    // The whole site. (Comparing no bytes is a call all the same, and took 80 ns.)
    if mount.is_empty() {
        return true;
    }
    match path.strip_prefix(mount) {
        Some(rest) => rest.is_empty() || rest.starts_with(b"/"),
        None => false,
    }
}
