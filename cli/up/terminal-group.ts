/**
 * Whether an sshd that is not root must be in the group tty to hand out terminals: so it is where devpts
 * is mounted without `gid=`. Elsewhere its sessions had better not be: everybody's terminals are of that
 * group, and open to its writing.
 * @param mounts the text of /proc/mounts
 *
 * Source: mount(8) of devpts; OpenSSH, pty_setowner.
 */
export function needsTerminalGroup(mounts: string): boolean {
  const options = mounts.split('\n').flatMap((line) => {
    const [, folder, type, given = ''] = line.split(' ');
    return folder === '/dev/pts' && type === 'devpts' ? [given.split(',')] : [];
  });
  // The last mount of a folder is the one that is seen.
  return options.at(-1)?.every((option) => !option.startsWith('gid=')) ?? true;
}
