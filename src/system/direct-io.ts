/** What file systems say of writing past the page cache (O_DIRECT). Facts: open(2), statfs(2). */

/** How they refuse it, or the alignment of what they were given. */
export const directRefusals: readonly string[] = ['EINVAL', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EPERM']

/** What FUSE brings may not like a file that is opened twice; btrfs compresses nothing of what goes past the cache. */
export const fileSystemTypes = { fuse: 0x65735546, btrfs: 0x9123683e } as const
