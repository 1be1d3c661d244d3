/** YAML that people write: read within bounds, checked whole, and every problem named by its line. */
import { readFile } from 'node:fs/promises';
import * as v from 'valibot';
import {
  Composer,
  type CST,
  type Document,
  isAlias,
  isMap,
  isNode,
  isScalar,
  isSeq,
  Lexer,
  LineCounter,
  Parser,
  visit,
} from 'yaml';
import { formatDuration, parseDuration } from './duration.ts';
import { Fault } from './fault.ts';

const MAXIMUM_TEXT_BYTES = 1024 * 1024;
/** Of the parser's stack, which takes one or two for each level. */
const MAXIMUM_DEPTH = 100;
/** How often aliases may be followed, so that a small text cannot stand for a huge one. */
const MAXIMUM_ALIASES = 100;
const MAXIMUM_SYNTAX_PROBLEMS = 20;
const MAXIMUM_MESSAGE = 200;
const MAXIMUM_SHOWN = 60;

export interface Position {
  /** From 1. */
  readonly line: number;
  /** From 1. */
  readonly column: number;
}

/** One document of a YAML text. */
export interface ParsedDocument {
  readonly value: unknown;
  /** Where the value stands, or its key; of what is not there, the place that should hold it. */
  locate(path: readonly (string | number)[]): Position;
}

/**
 * The documents of a YAML 1.2 text (core schema); empty ones are left out.
 * @param fileName for messages alone
 * @param text untrusted; at most 1 MiB
 * @throws Fault CONFIG_INVALID `FILE:LINE: problem`, one line a problem
 */
export function parseYamlDocuments(fileName: string, text: string): ParsedDocument[] {
  if (Buffer.byteLength(text) > MAXIMUM_TEXT_BYTES) {
    throw new Fault('CONFIG_INVALID', `${fileName}:1: expected at most 1 MiB of YAML`);
  }
  const lines = new LineCounter();
  const documents = parsed(fileName, text, lines);
  const problems = documents
    .flatMap((document) => [...document.errors, ...document.warnings, ...repeatedKeys(document)])
    .slice(0, MAXIMUM_SYNTAX_PROBLEMS)
    .map(({ message, pos }) => {
      const { line } = lines.linePos(pos[0]);
      return `${fileName}:${line}: ${message.split('\n', 1)[0]?.slice(0, MAXIMUM_MESSAGE)}`;
    });
  if (problems.length > 0) throw new Fault('CONFIG_INVALID', problems.join('\n'));
  return documents
    .filter(({ contents }) => isNode(contents) && !(isScalar(contents) && contents.value === null))
    .map((document) => ({
      value: toValue(fileName, document, lines),
      locate: (path) => position(document, path, lines),
    }));
}

function parsed(fileName: string, text: string, lines: LineCounter): Document.Parsed[] {
  try {
    // The library compares each key with each other one, so `repeatedKeys` looks for them instead.
    const composer = new Composer({ prettyErrors: false, uniqueKeys: false, stringKeys: true });
    return [...composer.compose(shallowTokens(text, lines))];
  } catch (error) {
    const message = `${fileName}:${lines.lineStarts.length}: expected YAML of a sensible depth`;
    throw new Fault('CONFIG_INVALID', message, { cause: error });
  }
}

/** What is nested too deeply must not reach the composer: it recurses, and can take Node down with it. */
function* shallowTokens(text: string, lines: LineCounter): Generator<CST.Token> {
  const parser = new Parser(lines.addNewLine);
  lines.addNewLine(0);
  for (const lexeme of new Lexer().lex(text)) {
    yield* parser.next(lexeme);
    // biome-ignore lint/complexity/useLiteralKeys: TypeScript lets a private field be read only so
    if (parser['stack'].length > MAXIMUM_DEPTH) throw new Error('nested too deeply');
  }
  yield* parser.end();
}

function repeatedKeys(document: Document.Parsed): { message: string; pos: [number] }[] {
  const repeated: { message: string; pos: [number] }[] = [];
  visit(document, {
    Map(_, { items }) {
      const seen = new Set<unknown>();
      for (const { key } of items) {
        if (!isScalar(key)) continue;
        const shown = JSON.stringify(String(key.value).slice(0, MAXIMUM_SHOWN));
        const message = `expected each key once, got ${shown} again`;
        if (seen.has(key.value)) repeated.push({ message, pos: [key.range?.[0] ?? 0] });
        seen.add(key.value);
      }
    },
  });
  return repeated;
}

function toValue(fileName: string, document: Document.Parsed, lines: LineCounter): unknown {
  try {
    return document.toJS({ maxAliasCount: MAXIMUM_ALIASES });
  } catch (error) {
    const { line } = position(document, [], lines);
    const message = `${fileName}:${line}: expected few and known aliases, or better none`;
    throw new Fault('CONFIG_INVALID', message, { cause: error });
  }
}

function position(
  document: Document.Parsed,
  path: readonly (string | number)[],
  lines: LineCounter,
): Position {
  let node: unknown = document.contents;
  let offset = isNode(node) ? (node.range?.[0] ?? 0) : 0;
  for (const step of path) {
    const found = child(isAlias(node) ? node.resolve(document) : node, step);
    if (found === undefined) break;
    offset = found.offset ?? offset;
    node = found.node;
  }
  const { line, col } = lines.linePos(offset);
  return { line: Math.max(line, 1), column: Math.max(col, 1) };
}

function child(
  node: unknown,
  step: string | number,
): { node: unknown; offset: number | undefined } | undefined {
  if (isMap(node)) {
    const pair = node.items.find(({ key }) => isScalar(key) && String(key.value) === String(step));
    if (pair === undefined) return undefined;
    const offset = isNode(pair.key) ? pair.key.range?.[0] : undefined;
    return { node: pair.value, offset };
  }
  const item = isSeq(node) && typeof step === 'number' ? node.items[step] : undefined;
  return isNode(item) ? { node: item, offset: item.range?.[0] } : undefined;
}

/** One `FILE:LINE: path: expected ..., got ...` for each issue, in the order of their lines. */
export function describeIssues(
  file: string,
  document: ParsedDocument,
  issues: readonly v.BaseIssue<unknown>[],
): string[] {
  const problems = issues
    .map((issue) => {
      const { path, says } = describeIssue(issue);
      const { line } = document.locate(path);
      const where = path.length === 0 ? `${file}:${line}` : `${file}:${line}: ${path.join('.')}`;
      return { line, text: `${where}: ${says}` };
    })
    .sort((a, b) => a.line - b.line)
    .map(({ text }) => text);
  return [...new Set(problems)];
}

function describeIssue(issue: v.BaseIssue<unknown>): { path: (string | number)[]; says: string } {
  const { expected, message, path: items = [] } = issue;
  const path = items.map(({ key }) => (typeof key === 'number' ? key : String(key)));
  const last = items.at(-1);
  if (last !== undefined && 'origin' in last && last.origin === 'key') {
    // To valibot a list is an object, with its indexes as keys.
    if (Array.isArray(last.input)) {
      return { path: path.slice(0, -1), says: 'expected a map, got a list' };
    }
    return expected === 'never'
      ? { path, says: 'expected no such key, got one that is unknown here' }
      : { path, says: 'expected this key, got nothing' };
  }
  // valibot's own messages begin so; what a schema says instead is what it expects.
  const told = message.startsWith('Invalid ') ? inWords(expected ?? 'something else') : message;
  return { path, says: `expected ${told}, got ${received(issue)}` };
}

function inWords(type: string): string {
  return { Object: 'a map', Array: 'a list', string: 'a text', null: 'nothing' }[type] ?? type;
}

function received({ input, received: type }: v.BaseIssue<unknown>): string {
  if (Array.isArray(input)) return 'a list';
  if (typeof input !== 'string') return inWords(type);
  const shown = input.length > MAXIMUM_SHOWN ? `${input.slice(0, MAXIMUM_SHOWN)}...` : input;
  return JSON.stringify(shown);
}

/**
 * The one document of a configuration file, checked by `schema`; an empty file is an empty map.
 * @throws Fault CONFIG_INVALID with one line for each problem
 */
export async function loadConfig<S extends v.GenericSchema>(
  file: string,
  schema: S,
): Promise<v.InferOutput<S>> {
  const [document = emptyDocument, ...more] = parseYamlDocuments(file, await readText(file));
  const [second] = more;
  if (second !== undefined) {
    const { line } = second.locate([]);
    throw new Fault('CONFIG_INVALID', `${file}:${line}: expected one document, got another`);
  }
  const result = v.safeParse(schema, document.value);
  if (result.success) return result.output;
  const problems = describeIssues(file, document, result.issues);
  throw new Fault('CONFIG_INVALID', problems.join('\n'));
}

const emptyDocument: ParsedDocument = { value: {}, locate: () => ({ line: 1, column: 1 }) };

async function readText(file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? String(error.code) : 'unknown error';
    const message = `${file}:1: expected a file that can be read, got ${code}`;
    throw new Fault('CONFIG_INVALID', message, { cause: error });
  }
}

/** A duration such as `90s` or `8h`, as seconds. */
export function durationSeconds(maximumSeconds: number) {
  return v.pipe(
    v.string(),
    v.rawTransform<string, number>(({ dataset, addIssue, NEVER }) => {
      try {
        return parseDuration(dataset.value, 'duration', maximumSeconds);
      } catch {
        const most = formatDuration(maximumSeconds);
        addIssue({ message: `a duration up to ${most}, such as 90s, 10m or 2h` });
        return NEVER;
      }
    }),
  );
}

/** A host, which may be an IPv6 address without its brackets, and a port. */
export interface HostPort {
  readonly host: string;
  readonly port: number;
}

const HOST_PORT = /^(?:\[([0-9A-Fa-f:.]{2,45})\]|([A-Za-z0-9._-]{1,253})):(\d{1,5})$/;

/** `host:port` or `[IPv6]:port`; port 0 is for listening alone, where the system then chooses. */
export const hostPort = v.pipe(
  v.string(),
  v.rawTransform<string, HostPort>(({ dataset, addIssue, NEVER }) => {
    const [, bracketed, plain, digits] = HOST_PORT.exec(dataset.value) ?? [];
    const host = bracketed ?? plain;
    const port = Number(digits);
    if (host !== undefined && port <= 65_535) return { host, port };
    addIssue({ message: 'host:port, such as 127.0.0.1:8081' });
    return NEVER;
  }),
);

/** The text that `hostPort` reads. */
export function formatHostPort({ host, port }: HostPort): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** A path from the root, at most 4096 bytes. */
export const absolutePath = v.pipe(
  v.string(),
  v.check(
    (path) => path.startsWith('/') && !path.includes('\0') && Buffer.byteLength(path) <= 4096,
    'an absolute path',
  ),
);

/** The `log` section of a process's configuration. */
export const logSection = v.optional(
  v.strictObject({
    level: v.optional(v.picklist(['trace', 'debug', 'info', 'warn', 'error']), 'info'),
  }),
  {},
);
