import { Outcome } from '../../proto/gen/writ/audit/v1/audit_pb.ts';
import type { RecordedEvent } from '../../proto/gen/writ/gateway/v1/recording_pb.ts';
import { Fault } from '../../runtime/fault.ts';
import type { AuditLog } from '../audit/audit-log.ts';
import type { Datastore } from '../plugins/datastore/datastore.ts';
import { blob, text } from '../plugins/datastore/row.ts';
import type { Actor } from './actor.ts';
import type { GatewayLinks } from './gateway-links.ts';
import { findGateway } from './gateways.ts';
import { recordingFrames } from './recording-frames.ts';
import { type RecordingVerdict, verifyRecording } from './verify-recording.ts';

export interface RecordingReplayOptions {
  readonly store: Datastore;
  readonly audit: AuditLog;
  readonly links: GatewayLinks;
}

/** Reads records back from the gateways that keep them. */
export class RecordingReplay {
  readonly #options: RecordingReplayOptions;

  constructor(options: RecordingReplayOptions) {
    this.#options = options;
  }

  /**
   * The events of a session's record and the verdict on it. That somebody reads it is an event of its
   * own, committed before the first byte is asked for (threats S9).
   * @throws Fault NOT_FOUND, UNAVAILABLE, RESOURCE_EXHAUSTED
   */
  async *events(
    sessionId: string,
    actor: Actor,
    signal: AbortSignal,
  ): AsyncGenerator<RecordedEvent, RecordingVerdict> {
    const { store, audit, links } = this.#options;
    const session = await store.get('select * from sessions where id = ?', sessionId);
    if (session === undefined) throw new Fault('NOT_FOUND', 'no such session');
    await store.transaction((tx) =>
      audit.append(tx, {
        type: 'recording.accessed',
        outcome: Outcome.SUCCESS,
        actor,
        sessionId,
        grant: text(session, 'grant_name'),
        backend: text(session, 'backend'),
        spiffeId: text(session, 'spiffe_id'),
        svidSerial: text(session, 'svid_serial'),
      }),
    );
    const gatewayId = text(session, 'gateway_id');
    const gateway = await findGateway(store, gatewayId);
    const chunks = links.readRecording(gatewayId, sessionId, signal);
    return yield* verifyRecording(recordingFrames(chunks), {
      sessionId,
      recordingKey: gateway?.recordingKey,
      lastHash: session.recording_hash === null ? undefined : blob(session, 'recording_hash'),
    });
  }
}
