/** What an agent keeps over a restart: its own SVID with its key, and the bundle. */
import { createPrivateKey } from 'node:crypto';
import { open, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import * as v from 'valibot';
import { type Bundle, bundleFromJwks, bundleToJwks } from '../../identity/bundle.ts';
import type { TrustDomain } from '../../identity/spiffe-id.ts';
import { verifySvid } from '../../identity/verify.ts';
import { decodePem } from '../../identity/x509/pem.ts';
import { svidPem, type X509Svid, x509Svid } from '../../identity/x509-svid.ts';
import { writeAtomic } from '../../runtime/atomic-file.ts';
import type { Clock } from '../../runtime/clock.ts';
import { Fault } from '../../runtime/fault.ts';
import { makeDirectory } from '../../runtime/make-directory.ts';

const MAXIMUM_FILE_BYTES = 1024 * 1024;
const SVID_FILE = v.strictObject({ certificates: v.string(), key: v.string() });

export class AgentState {
  readonly #directory: string;
  readonly #svidFile: string;
  readonly #bundleFile: string;

  constructor(directory: string) {
    this.#directory = directory;
    this.#svidFile = join(directory, 'agent-svid.json');
    this.#bundleFile = join(directory, 'bundle.json');
  }

  /**
   * Makes the directory, for its owner alone.
   * @throws Fault `STATE_UNUSABLE`
   */
  async prepare(): Promise<void> {
    try {
      await makeDirectory(this.#directory, 0o700);
      if (((await stat(this.#directory)).mode & 0o077) === 0) return;
    } catch (cause) {
      const message = `the state directory ${this.#directory} cannot be made or read`;
      throw new Fault('STATE_UNUSABLE', message, { cause });
    }
    throw new Fault('STATE_UNUSABLE', `${this.#directory} is open to others; chmod it to 0700`);
  }

  /**
   * The SVID and bundle of the last run, if they are there and still verify.
   * @throws Fault `STATE_UNUSABLE` if they are there and cannot be read
   */
  async load(
    trustDomain: TrustDomain,
    clock: Clock,
  ): Promise<{ readonly svid: X509Svid; readonly bundle: Bundle } | undefined> {
    const svidText = await readIfThere(this.#svidFile);
    const bundleText = await readIfThere(this.#bundleFile);
    if (svidText === undefined || bundleText === undefined) return undefined;
    try {
      const { certificates, key } = v.parse(SVID_FILE, JSON.parse(svidText));
      const svid = x509Svid(decodePem('CERTIFICATE', certificates), createPrivateKey(key));
      const bundle = bundleFromJwks(trustDomain, bundleText);
      if (svid.notAfter <= clock.now()) return undefined;
      verifySvid(svid.chain, (name) => (name === trustDomain ? bundle : undefined), clock.now());
      return { svid, bundle };
    } catch (cause) {
      const message = `${this.#svidFile} and bundle.json cannot be used; remove them and join anew`;
      throw new Fault('STATE_UNUSABLE', message, { cause });
    }
  }

  /**
   * The bundle of the last run, also where its SVID is not there any more.
   * @throws Fault `STATE_UNUSABLE` if it is there and cannot be read
   */
  async loadBundle(trustDomain: TrustDomain): Promise<Bundle | undefined> {
    const text = await readIfThere(this.#bundleFile);
    try {
      return text === undefined ? undefined : bundleFromJwks(trustDomain, text);
    } catch (cause) {
      const message = `${this.#bundleFile} cannot be used; remove it`;
      throw new Fault('STATE_UNUSABLE', message, { cause });
    }
  }

  /** Durable when it resolves. */
  async saveSvid(svid: X509Svid): Promise<void> {
    await writeAtomic(this.#svidFile, Buffer.from(JSON.stringify(svidPem(svid))), 0o600);
  }

  async saveBundle(bundle: Bundle): Promise<void> {
    await writeAtomic(this.#bundleFile, Buffer.from(bundleToJwks(bundle, 'all')), 0o600);
  }

  async deleteSvid(): Promise<void> {
    await rm(this.#svidFile, { force: true });
  }
}

async function readIfThere(path: string): Promise<string | undefined> {
  try {
    await using file = await open(path, 'r');
    const { size } = await file.stat();
    if (size > MAXIMUM_FILE_BYTES) throw new Error(`larger than ${MAXIMUM_FILE_BYTES} bytes`);
    return await file.readFile('utf8');
  } catch (cause) {
    if (cause instanceof Error && 'code' in cause && cause.code === 'ENOENT') return undefined;
    throw new Fault('STATE_UNUSABLE', `${path} cannot be read`, { cause });
  }
}
