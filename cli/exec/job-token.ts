/** Where a CI job's ID token comes from. */
import { open } from 'node:fs/promises';
import { Fault } from '../../runtime/fault.ts';

const MAXIMUM_BYTES = 16 * 1024;
const MAXIMUM_ANSWER_BYTES = 64 * 1024;
const TIMEOUT_MS = 10_000;

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
  try {
    const response = await fetch(url, {
      headers: { accept: 'application/json', authorization: `Bearer ${asked.bearer}` },
      redirect: 'error',
      signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
    });
    if (response.status !== 200) throw new Error(`it answers status ${response.status}`);
    const answer: unknown = JSON.parse(await bounded(response));
    const value = typeof answer === 'object' && answer !== null && 'value' in answer;
    return tokenIn(value && typeof answer.value === 'string' ? answer.value : '', 'its answer');
  } catch (cause) {
    throw new Fault('UNAVAILABLE', `no token of ${url.host}: ${reasonOf(cause)}`, { cause });
  }
}

async function bounded(response: Response): Promise<string> {
  const parts: Uint8Array[] = [];
  let bytes = 0;
  for await (const part of response.body ?? []) {
    bytes += part.length;
    if (bytes > MAXIMUM_ANSWER_BYTES) throw new Error('its answer is too long');
    parts.push(part);
  }
  return Buffer.concat(parts).toString('utf8');
}

function tokenIn(text: string, place: string): string {
  const token = text.trim();
  if (/^[\w-]+\.[\w-]+\.[\w-]+$/.test(token) && token.length <= MAXIMUM_BYTES) return token;
  throw new Fault('CONFIG_INVALID', `${place} holds no token`);
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

function reasonOf(error: unknown): string {
  const { cause, message } = error instanceof Error ? error : { cause: undefined, message: '' };
  return cause instanceof Error ? `${message}: ${cause.message}` : message;
}
