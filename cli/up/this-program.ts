/** `writ` as it runs now, as arguments of Node. */
export function thisProgram(): readonly string[] {
  return [...process.execArgv, process.argv[1] ?? ''];
}
