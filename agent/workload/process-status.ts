/**
 * The numbers of a field in the text of /proc/PID/status; none if the field is not there.
 *
 * The process chooses its `Name`, and the kernel escapes only line feeds in it: a name of
 * `\rUid:\t0\t0` must not pass for a line, so lines end at a line feed and at nothing else.
 * @param field with its colon: `Uid:`
 * @throws Error if something else than numbers stands there
 *
 * Source: proc_pid_status(5).
 */
export function statusNumbers(text: string, field: string): number[] {
  const line = text.split('\n').find((one) => one.startsWith(field)) ?? '';
  const words = line
    .slice(field.length)
    .split(/[\t ]+/)
    .filter((word) => word !== '');
  if (words.every((word) => /^\d{1,10}$/.test(word))) return words.map(Number);
  throw new Error(`${field} in /proc/PID/status is not a list of numbers`);
}
