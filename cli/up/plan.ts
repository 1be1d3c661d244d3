/** What `writ up` was asked for and where its parts are. */
import { copyFile, link, rm, stat } from 'node:fs/promises';
import { parseTrustDomain, type TrustDomain } from '../../identity/spiffe-id.ts';
import { parseDuration } from '../../runtime/duration.ts';
import { Fault } from '../../runtime/fault.ts';
import { type Flags, textFlag } from '../verb.ts';
import { choosePorts, type Ports } from './ports.ts';
import type { StateDir } from './state-dir.ts';

export interface Plan {
  readonly trustDomain: TrustDomain;
  readonly ports: Ports;
  readonly sample: boolean;
  /** Lifetime of SVIDs in seconds. */
  readonly ttlSeconds: number;
  /** Processes of the gateway that serve clients. */
  readonly gatewayWorkers: number;
}

/** As in the gateway's configuration. */
const MOST_WORKERS = 64;
const MAXIMUM_TTL_SECONDS = 24 * 60 * 60;

/** @throws Fault USAGE or SPIFFE_ID_INVALID */
export function readPlan(flags: Flags): Plan {
  return {
    trustDomain: parseTrustDomain(textFlag(flags, 'trust-domain') ?? ''),
    ports: choosePorts(textFlag(flags, 'port-base')),
    sample: flags['no-sample'] !== true,
    ttlSeconds: parseDuration(textFlag(flags, 'ttl') ?? '', '--ttl', MAXIMUM_TTL_SECONDS),
    gatewayWorkers: workersOf(textFlag(flags, 'gateway-workers') ?? ''),
  };
}

function workersOf(text: string): number {
  const workers = Number(text);
  if (/^\d{1,2}$/.test(text) && workers >= 1 && workers <= MOST_WORKERS) return workers;
  throw new Fault('USAGE', `--gateway-workers: a number from 1 to ${MOST_WORKERS}`);
}

export function healthUrl(port: number): string {
  return `http://127.0.0.1:${port}`;
}

export const GATEWAY_NAME = 'demo';
/** The name that the gateway's certificates carry and every printed command uses. */
export const GATEWAY_HOST = 'localhost';

export function gatewayId({ trustDomain }: Plan): string {
  return `spiffe://${trustDomain}/writ/gateway/${GATEWAY_NAME}`;
}

/** Entries hang on this alias, so that they outlive the agent's own ID (a new join token, a new ID). */
export function nodeAlias({ trustDomain }: Plan): string {
  return `spiffe://${trustDomain}/node/demo`;
}

/**
 * A second name of this Node, run by the gateway alone, so that its path tells the gateway from every
 * other Node process of the same user. A hard link where the file system allows, else a copy.
 */
export async function gatewayProgram(state: StateDir): Promise<string> {
  const program = state.in('gateway', 'writ-gateway');
  const [mine, there] = await Promise.all([
    stat(process.execPath),
    stat(program).catch(() => undefined),
  ]);
  if (there?.size === mine.size && there.mtimeMs >= mine.mtimeMs) return program;
  await rm(program, { force: true });
  try {
    await link(process.execPath, program);
  } catch {
    await copyFile(process.execPath, program);
  }
  return program;
}
