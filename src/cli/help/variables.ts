/** The environment variables that dsm and its libraries read, and its files, for the manual page. */
import { SETTINGS, type Setting, type SettingName, settingText } from "../../core/base/settings.ts";

/** Variables that dsm sets for its own processes are internal and not shown. */
const shown = (Object.keys(SETTINGS) as SettingName[]).filter((name) => (SETTINGS[name] as Setting).of !== "process");

export const VARIABLES: readonly (readonly [name: string, meaning: string])[] = [
  ...shown.map((name) => [SETTINGS[name].variable, settingText(name)] as const),
  ["NO_COLOR", "Set to anything: no colours. By default only terminals get them, and not with TERM=dumb."],
  ["FORCE_COLOR", "Set: colours everywhere. 0: none anywhere."],
];

export const FILES: readonly (readonly [path: string, meaning: string])[] = [
  [
    "~/.config/dsm/token",
    "The shared token of a cluster, 16 to 256 bytes, and the fingerprint of its authority; readable by its owner alone.",
  ],
  [
    "~/.config/dsm/authority-key.pem, authority.pem",
    "The authority of this user's daemons: its key, and its certificate.",
  ],
  [
    "~/.cache/dsm/",
    "Files inside dsm that other programs load, such as the library, and copies of dsm that dsm run --hosts has sent.",
  ],
  ["$XDG_RUNTIME_DIR/dsm/", "Sockets of this user's arbiters."],
  ["/dev/shm/dsm*", "Replicas of the memory of running sessions."],
  ["PREFIX/share/dsm/manifest", "The list of the files that dsm install has put under a prefix."],
];
