/* A libcuda.so.1 over the devices of fake_nvml.c, without MIG: as much of it as scripts/gpu_rows/cuda.py asks.
   CUDA_VISIBLE_DEVICES says which are seen, by index or UUID. What is allocated is a line of the file that
   FAKE_NVML names: process, MB, device; it counts for as long as the process lives. */
#define _GNU_SOURCE
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { SUCCESS = 0, OUT_OF_MEMORY = 2, NO_DEVICE = 100, DEVICES = 8 };
#define MB 1048576ull
#define TOTAL (81920 * MB)

static const char LETTERS[] = "abcdefab";
static int visible[DEVICES], count;

static int named(const char *token) {
    char uuid[48];
    for (int device = 0; device < DEVICES; device++) {
        snprintf(uuid, sizeof uuid, "GPU-%d%c000000-0000-0000-0000-000000000000", device, LETTERS[device]);
        if (strcmp(token, uuid) == 0)
            return device;
    }
    return atoi(token);
}

int cuInit(unsigned flags) {
    const char *mask = getenv("CUDA_VISIBLE_DEVICES");
    char *words = strdup(mask ? mask : "0,1,2,3,4,5,6,7");
    count = 0;
    for (char *word = strtok(words, ","); word && count < DEVICES; word = strtok(NULL, ","))
        visible[count++] = named(word);
    free(words);
    return count ? SUCCESS : NO_DEVICE;
}

int cuDeviceGetCount(int *found) { *found = count; return SUCCESS; }
int cuDeviceGet(int *device, int number) { *device = number; return SUCCESS; }
int cuDevicePrimaryCtxRetain(void **context, int device) { *context = NULL; return SUCCESS; }
int cuCtxSetCurrent(void *context) { return SUCCESS; }
int cuCtxSynchronize(void) { return SUCCESS; }
int cuMemsetD8_v2(uint64_t address, unsigned char value, size_t size) { return SUCCESS; }

int cuDeviceGetUuid_v2(unsigned char *uuid, int device) {
    memset(uuid, 0, 16);
    uuid[0] = visible[device] * 16 + LETTERS[visible[device]] - 'a' + 10;
    return SUCCESS;
}

static unsigned long long used(FILE *file) {
    unsigned long long sum = 0;
    int pid, mb, device;
    rewind(file);
    while (fscanf(file, "%d %d %d", &pid, &mb, &device) == 3)
        if (device == visible[0] && kill(pid, 0) == 0)
            sum += mb * MB;
    return sum;
}

static FILE *opened(void) {
    FILE *file = fopen(getenv("FAKE_NVML"), "a+");
    flock(fileno(file), LOCK_EX);
    return file;
}

int cuMemGetInfo_v2(size_t *left, size_t *total) {
    FILE *file = opened();
    *total = TOTAL;
    *left = TOTAL - used(file);
    fclose(file);
    return SUCCESS;
}

int cuMemAlloc_v2(uint64_t *address, size_t size) {
    FILE *file = opened();
    int fits = used(file) + size <= TOTAL;
    if (fits)
        fprintf(file, "%d %d %d\n", (int)getpid(), (int)(size / MB), visible[0]);
    fclose(file);
    *address = 1;
    return fits ? SUCCESS : OUT_OF_MEMORY;
}
