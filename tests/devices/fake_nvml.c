/* An NVML of eight devices, for nvidia-ml-py to load as libnvidia-ml.so.1: 2 is partitioned by MIG, on 6 a
   stranger computes, 3 has counted two uncorrected memory errors. The devices of fakes.py, as the driver
   tells of them. A device's handle is its index + 1, that of a MIG instance its number + 100. The file that
   FAKE_NVML names has a line for each process that computes: its number, how many MB it holds for as long as it
   lives, and on which device; without the last it is 3, and without MB it holds 1000 there, dead or alive. */
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { SUCCESS = 0, INVALID_ARGUMENT = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, INSUFFICIENT_SIZE = 7 };
enum { DEVICES = 8, PARTITIONED = 2, FAULTY = 3, BUSY = 6, INSTANCE = 100, MOST = 16 };
#define STRANGER 4194305u
#define MB 1048576ull

static const char *INSTANCES[] = {"MIG-11aa-0000", "MIG-22bb-0000"};

typedef struct { unsigned long long total, free, used; } Memory;
typedef struct { unsigned pid; unsigned long long used; unsigned gpu_instance, compute_instance; } Process;

int nvmlInitWithFlags(unsigned flags) { return SUCCESS; }
int nvmlShutdown(void) { return SUCCESS; }
const char *nvmlErrorString(int code) { return code == NOT_FOUND ? "Not Found" : "Error"; }
int nvmlSystemGetDriverVersion(char *text, unsigned size) { snprintf(text, size, "570.1"); return SUCCESS; }
int nvmlDeviceGetCount_v2(unsigned *count) { *count = DEVICES; return SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, uintptr_t *handle) {
    *handle = index + 1;
    return index < DEVICES ? SUCCESS : INVALID_ARGUMENT;
}

int nvmlDeviceGetUUID(uintptr_t handle, char *text, unsigned size) {
    if (handle >= INSTANCE)
        snprintf(text, size, "%s", INSTANCES[handle - INSTANCE]);
    else
        snprintf(text, size, "GPU-%d%c000000-0000-0000-0000-000000000000", (int)handle - 1, "abcdefab"[handle - 1]);
    return SUCCESS;
}

int nvmlDeviceGetHandleByUUID(const char *uuid, uintptr_t *handle) {
    char text[96];
    for (*handle = 1; *handle <= INSTANCE + 1; *handle += *handle == DEVICES ? INSTANCE - DEVICES : 1) {
        nvmlDeviceGetUUID(*handle, text, sizeof text);
        if (strcmp(text, uuid) == 0)
            return SUCCESS;
    }
    return NOT_FOUND;
}

int nvmlDeviceGetName(uintptr_t handle, char *text, unsigned size) {
    snprintf(text, size, "Fake 80GB");
    return SUCCESS;
}

int nvmlDeviceGetMigMode(uintptr_t handle, unsigned *current, unsigned *pending) {
    *current = *pending = handle == PARTITIONED + 1;
    return handle == 1 ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetMaxMigDeviceCount(uintptr_t handle, unsigned *count) { *count = 7; return SUCCESS; }

int nvmlDeviceGetMigDeviceHandleByIndex(uintptr_t handle, unsigned number, uintptr_t *instance) {
    *instance = INSTANCE + number / 3;  /* instances 0 and 3: numbers have gaps */
    return number == 0 || number == 3 ? SUCCESS : NOT_FOUND;
}

int nvmlDeviceGetCpuAffinity(uintptr_t handle, unsigned words, unsigned long long *mask) {
    memset(mask, 0, words * sizeof *mask);
    mask[0] = handle <= 4 ? 0x0f : 0xf0;
    return SUCCESS;
}

static unsigned processes_on(uintptr_t handle, Process *found) {
    unsigned count = 0, pid, mb, device;
    char line[64];
    const char *path = getenv("FAKE_NVML");
    FILE *file = path ? fopen(path, "r") : NULL;
    if (handle == BUSY + 1)
        found[count++] = (Process){STRANGER, 1000 * MB, ~0u, ~0u};
    while (file && count < MOST && fgets(line, sizeof line, file)) {
        device = FAULTY;
        int words = sscanf(line, "%u %u %u", &pid, &mb, &device);
        if (device + 1 == handle && (words == 1 || (words > 1 && kill(pid, 0) == 0)))
            found[count++] = (Process){pid, (words == 1 ? 1000 : mb) * MB, ~0u, ~0u};
    }
    if (file)
        fclose(file);
    return count;
}

int nvmlDeviceGetMemoryInfo(uintptr_t handle, Memory *memory) {
    Process found[MOST];
    unsigned count = processes_on(handle, found);
    memory->total = 81920 * MB;
    memory->used = count ? 0 : 4 * MB;
    while (count)
        memory->used += found[--count].used;
    memory->free = memory->total - memory->used;
    return SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses_v3(uintptr_t handle, unsigned *count, Process *processes) {
    Process found[MOST];
    unsigned room = *count;
    *count = processes_on(handle, found);
    if (room < *count)
        return INSUFFICIENT_SIZE;
    memcpy(processes, found, *count * sizeof *found);
    return SUCCESS;
}

/* In millijoules: each draws 250 W ever since the machine was started; device 0 is too old to count. */
int nvmlDeviceGetTotalEnergyConsumption(uintptr_t handle, unsigned long long *energy) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    *energy = now.tv_sec * 250000ull + now.tv_nsec / 4000;
    return handle == 1 || handle >= INSTANCE ? NOT_SUPPORTED : SUCCESS;
}

int nvmlDeviceGetTotalEccErrors(uintptr_t handle, int type, int counter, unsigned long long *errors) {
    *errors = handle == FAULTY + 1 ? 2 : 0;
    return handle == 1 ? NOT_SUPPORTED : SUCCESS;
}
