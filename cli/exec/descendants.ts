import { readFileSync } from 'node:fs';

const DEEPEST = 64;

interface ProcessFacts {
  readonly parent: number;
  readonly session: number;
}

/**
 * Whether a process comes from `ancestor`, by its parents or, if those have gone, by being in the
 * session that `session` leads. True of the process that has the pid now: that it is still the one
 * that was meant is the caller's to check afterwards.
 */
export function descendsFrom(pid: number, ancestor: number, session: number | undefined): boolean {
  let facts = factsOf(pid);
  if (facts !== undefined && facts.session === session) return true;
  for (let depth = 0; facts !== undefined && depth < DEEPEST; depth += 1) {
    if (facts.parent === ancestor) return true;
    facts = facts.parent > 1 ? factsOf(facts.parent) : undefined;
  }
  return false;
}

/** Source: proc_pid_stat(5); the name, which may hold anything, ends at the last parenthesis. */
function factsOf(pid: number): ProcessFacts | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const [, parent, , session] = text.slice(text.lastIndexOf(')') + 2).split(' ');
    return { parent: Number(parent), session: Number(session) };
  } catch {
    return undefined;
  }
}
