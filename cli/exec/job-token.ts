/** Where a CI job's ID token comes from. */
import { open } from 'node:fs/promises';
import { Fault } from '../../runtime/fault.ts';
import { httpsJson } from '../../runtime/https-json.ts';

const MAXIMUM_BYTES = 16 * 1024;

/**
 * A token, for the audience if the source can choose it: then it is fresh by the server's nonce in it.
 * @throws Fault, never with the token
 */
export type JobTokenSource = (audience: string, signal: AbortSignal) => Promise<string>;

export interface JobTokenOptions {
  /** Name of a variable that holds a token, as GitLab sets it. */
  readonly variable: string | undefined;
  /** Path of a file that holds one. */
  readonly file: string | undefined;
  readonly environment: NodeJS.ProcessEnv;
}

/** What was named, or else the mint of a GitHub job. @throws Fault USAGE if there is none */
export function jobTokenSource({ variable, file, environment }: JobTokenOptions): JobTokenSource {
  if (variable !== undefined && file !== undefined)
    throw new Fault('USAGE', 'exec: --token-env or --token-file, not both');
  if (file !== undefined) return async () => tokenIn(await readStart(file), file);
  if (variable !== undefined)
    return async () => tokenIn(environment[variable] ?? '', `the variable ${variable}`);
  const { ACTIONS_ID_TOKEN_REQUEST_URL: url, ACTIONS_ID_TOKEN_REQUEST_TOKEN: bearer } = environment;
  if (url !== undefined && bearer !== undefined)
    return (audience, signal) => mintAtGithub({ url, bearer, audience }, signal);
  const message =
    'exec: no token here: give a GitHub job `permissions: id-token: write`, or name --token-env or --token-file';
  throw new Fault('USAGE', message);
}

/** Source: GitHub Docs, OpenID Connect, "Updating your actions for OIDC": the request of a token. */
async function mintAtGithub(
  asked: { readonly url: string; readonly bearer: string; readonly audience: string },
  signal: AbortSignal,
): Promise<string> {
  const url = URL.canParse(asked.url) ? new URL(asked.url) : undefined;
  if (url?.protocol !== 'https:')
    throw new Fault('CONFIG_INVALID', 'ACTIONS_ID_TOKEN_REQUEST_URL is no https URL');
  url.searchParams.set('audience', asked.audience);
  const { status, json } = await httpsJson({ url, bearer: asked.bearer, signal });
  if (status !== 200) throw noToken(url, `it answers status ${status}`);
  const value = typeof json === 'object' && json !== null && 'value' in json ? json.value : '';
  if (!isToken(value)) throw noToken(url, 'its answer holds none');
  return value;
}

function noToken(url: URL, why: string): Fault {
  return new Fault('UNAVAILABLE', `no token of ${url.host}: ${why}`);
}

function tokenIn(text: string, place: string): string {
  const token = text.trim();
  if (isToken(token)) return token;
  throw new Fault('CONFIG_INVALID', `${place} holds no token`);
}

function isToken(value: unknown): value is string {
  return (
    typeof value === 'string' &&
    value.length <= MAXIMUM_BYTES &&
    /^[\w-]+\.[\w-]+\.[\w-]+$/.test(value)
  );
}

async function readStart(path: string): Promise<string> {
  try {
    await using file = await open(path, 'r');
    const { buffer, bytesRead } = await file.read(Buffer.alloc(MAXIMUM_BYTES + 1), 0);
    return buffer.subarray(0, bytesRead).toString('latin1');
  } catch (cause) {
    throw new Fault('CONFIG_INVALID', `${path} cannot be read`, { cause });
  }
}
