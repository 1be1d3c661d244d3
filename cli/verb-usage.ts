import type { Verb } from './verb.ts';

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

/** Its words and arguments. */
export function synopsis(verb: Verb): string {
  return ['writ', ...verb.path, ...verb.positionals].join(' ');
}
