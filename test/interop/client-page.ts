/** The strings and programs of docs/clients.md, as a test uses them. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { ROOT } from '../fixtures/programs.ts';
import type { Target } from './client-world.ts';

const PAGE = readFileSync(join(ROOT, 'docs/clients.md'), 'utf8');

export interface Snippet {
  readonly language: string;
  readonly text: string;
}

/** The blocks of code under a heading, with this place instead of the page's. */
export function snippets(heading: string, target: Target, tls: string): Snippet[] {
  const section = PAGE.split(/^## /m).find((text) => text.startsWith(`${heading}\n`));
  if (section === undefined) throw new Error(`docs/clients.md has no ${heading}`);
  return [...section.matchAll(/^```(\w+)\n([\s\S]*?)^```$/gm)].map(
    ([, language = '', text = '']) => ({
      language,
      text: text
        .replaceAll('6432', String(target.port))
        .replaceAll('tls/', `${tls}/`)
        .replaceAll(/(?<=dbname=|database="|database: '|\/)shop\b/g, target.database),
    }),
  );
}

/** The lines of the first block that is a list of connection strings. */
export function connectionStrings(heading: string, target: Target, tls: string): string[] {
  const block = snippets(heading, target, tls).find(({ language }) => language === 'txt');
  return block?.text.trim().split('\n') ?? [];
}
