import { open } from 'node:fs/promises';
import type { Bundle } from '../../identity/bundle.ts';
import { decodePem } from '../../identity/x509/pem.ts';
import { Fault } from '../../runtime/fault.ts';
import type { AgentConfig } from '../config.ts';
import { joinTokenAttestor, nodeAttestor } from '../plugins/catalog.ts';
import type { NodeAttestor } from '../plugins/node-attestor/node-attestor.ts';
import type { FirstTrust } from './first-trust.ts';
import { readJoinString } from './join-string.ts';

const MAXIMUM_BUNDLE_BYTES = 1024 * 1024;

/** How this node proves itself, and by what it knows the server. */
export interface NodeProof {
  readonly attestor: NodeAttestor;
  readonly trust: FirstTrust;
}

type Configured = Pick<
  AgentConfig,
  'join_string_file' | 'node_attestor' | 'trust_bundle_file' | 'insecure_bootstrap'
>;

/** What proves this node again and again; undefined where a join token proves it once. */
export function lastingAttestor({
  node_attestor: configured,
}: Pick<Configured, 'node_attestor'>): NodeAttestor | undefined {
  const attestor = configured && nodeAttestor(configured);
  return attestor?.canReattest === true ? attestor : undefined;
}

/**
 * @param known the bundle of an earlier attestation
 * @throws Fault CONFIG_INVALID that says what to set
 */
export async function nodeProof(config: Configured, known?: Bundle): Promise<NodeProof> {
  const { join_string_file: joinStringFile, node_attestor: configured } = config;
  if (configured !== undefined)
    return { attestor: nodeAttestor(configured), trust: await lastingTrust(config, known) };
  if (joinStringFile === undefined) {
    const message =
      'this node has no SVID yet: set join_string_file to what `writ token create` prints, or node_attestor';
    throw new Fault('CONFIG_INVALID', message);
  }
  const { token, pins } = await readJoinString(joinStringFile);
  return { attestor: joinTokenAttestor({ token }), trust: { kind: 'pins', pins } };
}

/** A file of long ago may lack the roots of now, and a bundle of before a long sleep as well. */
async function lastingTrust(config: Configured, known: Bundle | undefined): Promise<FirstTrust> {
  const { trust_bundle_file: file, insecure_bootstrap: isInsecure } = config;
  const roots = known?.x509Authorities.map(({ der }) => der) ?? [];
  if (file !== undefined) roots.push(...(await readRoots(file)));
  if (roots.length > 0) return { kind: 'roots', roots };
  if (isInsecure) return { kind: 'first-use' };
  throw new Fault(
    'CONFIG_INVALID',
    'trust_bundle_file is missing: node_attestor needs the roots of the trust domain (`writ fetch bundle` on a node that has them, or `spire-server bundle show`)',
  );
}

async function readRoots(file: string): Promise<Uint8Array[]> {
  try {
    await using handle = await open(file, 'r');
    const { size } = await handle.stat();
    if (size > MAXIMUM_BUNDLE_BYTES) throw new Error(`larger than ${MAXIMUM_BUNDLE_BYTES} bytes`);
    const roots = decodePem('CERTIFICATE', await handle.readFile('latin1'));
    if (roots.length > 0) return roots;
  } catch (cause) {
    throw new Fault('CONFIG_INVALID', `trust_bundle_file: ${file} cannot be read`, { cause });
  }
  throw new Fault('CONFIG_INVALID', `trust_bundle_file: ${file} holds no certificate`);
}
