import type { Verb } from './verb.ts';
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

/** One command and its options. */
export function verbUsage(verb: Verb): string {
  const options = Object.entries(verb.options).map(([name, option]) => {
    const value = option.type === 'string' ? ' VALUE' : '';
    const preset =
      option.default === undefined || option.type === 'boolean' ? '' : ` (${option.default})`;
    return `  --${name}${value}${preset}${option.multiple === true ? ' (may be repeated)' : ''}`;
  });
  const admin = '  --admin-socket VALUE (WRIT_ADMIN_SOCKET, or that of writ up)';
  return `usage: ${synopsis(verb)} [OPTION ...]\n${verb.summary}\n${[...options, admin].join('\n')}\n`;
}

function synopsis(verb: Verb): string {
  return ['writ', ...verb.path, ...verb.positionals].join(' ');
}
