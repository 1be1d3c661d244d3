/** The metadata service of a cloud's machine, at an address that only the machine itself reaches. */
import { Fault } from '../../../runtime/fault.ts';

const TIMEOUT_MS = 5000;
const MAXIMUM_BYTES = 64 * 1024;

export interface MetadataRequest {
  /** `http://host[:port]` of the service. */
  readonly service: string;
  /** With its query. */
  readonly path: string;
  readonly method?: 'GET' | 'PUT';
  readonly headers: Readonly<Record<string, string>>;
}

/** @throws Fault UNAVAILABLE, never with what was read */
export async function readMetadata(asked: MetadataRequest, signal: AbortSignal): Promise<string> {
  const { service, path, method = 'GET', headers } = asked;
  try {
    const response = await fetch(new URL(path, service), {
      ...{ method, headers, redirect: 'error' },
      signal: AbortSignal.any([signal, AbortSignal.timeout(TIMEOUT_MS)]),
    });
    if (response.status !== 200) throw new Error(`status ${response.status}`);
    const parts: Uint8Array[] = [];
    let bytes = 0;
    for await (const part of response.body ?? []) {
      bytes += part.length;
      if (bytes > MAXIMUM_BYTES) throw new Error(`more than ${MAXIMUM_BYTES} bytes`);
      parts.push(part);
    }
    return Buffer.concat(parts).toString('utf8');
  } catch (cause) {
    const place = path.split('?', 1)[0];
    throw new Fault('UNAVAILABLE', `no answer of ${service}${place}`, { cause });
  }
}
