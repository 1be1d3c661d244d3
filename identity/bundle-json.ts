/**
 * What `JSON.parse` does not tell of a bundle: that an object has a name twice, of which it keeps the
 * last, and the digits of a number beyond 2^53.
 */

/** A string; one of the characters that make structure; or a number or word, or blanks. */
const TOKENS = /"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\]:,]|[^"{}[\]:,]+/gs;

/** The names of an object that is being read, and of the member whose value comes next. */
interface OpenObject {
  readonly names: Set<string>;
  name: string | undefined;
}

/** The members of a document's outermost object whose values are numbers, as they are written. */
export type TopNumbers = ReadonlyMap<string, string>;

/**
 * Source: SPIFFE Trust Domain and Bundle 5 (a name that stands there twice is refused).
 * @param json what `JSON.parse` has taken
 * @throws Error naming what an object has twice
 */
export function scanJson(json: string): TopNumbers {
  const numbers = new Map<string, string>();
  /** Undefined for a list. */
  const open: (OpenObject | undefined)[] = [];
  for (const [token] of json.matchAll(TOKENS)) {
    const object = open.at(-1);
    if (token === '{') open.push({ names: new Set(), name: undefined });
    else if (token === '[') open.push(undefined);
    else if (token === '}' || token === ']') open.pop();
    else if (object !== undefined && token !== ':') {
      const value = takeToken(object, token);
      if (value !== undefined && open.length === 1) numbers.set(...value);
    }
  }
  return numbers;
}

/** @returns name and digits of a member whose number ends with this token */
function takeToken(object: OpenObject, token: string): [string, string] | undefined {
  if (token === ',') object.name = undefined;
  else if (object.name === undefined) takeName(object, token);
  else if (/^\s*-?\d/.test(token)) return [object.name, token.trim()];
  return undefined;
}

function takeName(object: OpenObject, token: string): void {
  if (!token.startsWith('"')) return;
  const name: string = JSON.parse(token);
  if (object.names.has(name))
    throw new Error(`${JSON.stringify(name.slice(0, 64))} is there twice`);
  object.names.add(name);
  object.name = name;
}
