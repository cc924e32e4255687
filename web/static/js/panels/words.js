// The fixed vocabulary of what a worker is doing, and how loud each word is.

export const WORD_TONES = {
  QUOTING: "good",
  "ONE-SIDED": "select",
  WAITING: "warn",
  PAUSED: "warn",
  REDUCING: "warn",
  HALTED: "bad",
  STOPPING: "warn",
  DISCONNECTED: "bad",
  STOPPED: "off",
  FAILED: "bad",
};
