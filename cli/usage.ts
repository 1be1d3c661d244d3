import type { Verb } from './verb.ts';
import { synopsis } from './verb-usage.ts';
import { VERBS } from './verbs.ts';

/** The verb whose words `argv` begins with; the longest wins. */
export function findVerb(argv: readonly string[]): Verb | undefined {
  const fits = VERBS.filter((verb) => verb.path.every((word, at) => argv[at] === word));
  return fits.sort((a, b) => b.path.length - a.path.length)[0];
}

/** All commands, or those of one noun. */
export function usage(noun = ''): string {
  const first = noun.split(' ')[0] ?? '';
  const ofNoun = VERBS.filter((verb) => verb.path[0] === first);
  const shown = ofNoun.length > 0 ? ofNoun : VERBS;
  const width = Math.max(...shown.map((verb) => synopsis(verb).length));
  const lines = shown.map((verb) => `  ${synopsis(verb).padEnd(width)}  ${verb.summary}`);
  return `usage: writ COMMAND [OPTION ...]\n\n${lines.join('\n')}\n\nwrit COMMAND --help tells its options. Exit status: 0 done, 1 refused or failed, 2 wrong usage.\n`;
}
