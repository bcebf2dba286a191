// What Go's runtime and libdsm both have to do with signals: stores of many goroutines beside the garbage collector and
// preemption, nil pointers, and a fault that is nobody's. Argument "fault": ends by that, after stores.
package main

// #cgo LDFLAGS: -ldsm
// #include <dsm/dsm.h>
import "C"

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"unsafe"
)

const (
	workers = 8
	part    = 32 << 10
)

func must(holds bool, what string) {
	if !holds {
		panic(what)
	}
}

// grow uses more and more stack, which Go moves meanwhile, and stores at every step.
func grow(numbers []float64, depth int) float64 {
	var frame [64]float64
	frame[depth%64] = float64(depth)
	numbers[depth] = frame[depth%64]
	if depth+1 == len(numbers) {
		return 0
	}
	return grow(numbers, depth+1) + frame[depth%64]
}

func nilPointer() (panicked bool) {
	defer func() { panicked = recover() != nil }()
	var nothing *int
	*nothing = 1
	return false
}

func work(bytes []byte, seed byte, total *int64) {
	for i := range bytes {
		if i%64 == 0 {
			bytes[i] = seed
		}
	}
	text := make([]byte, 5000)
	for i := range text {
		text[i] = byte(i) * seed
	}
	copy(bytes[1001:], text)
	grow(unsafe.Slice((*float64)(unsafe.Pointer(&bytes[8192])), 500), 0)
	for i := 0; i < 100; i++ {
		atomic.AddInt64(total, int64(seed))
		must(nilPointer(), "no panic")
		runtime.Gosched()
	}
}

func main() {
	var session *C.dsm_session
	must(C.dsm_open(nil, &session) == C.DSM_OK, "dsm_open")
	must(C.dsm_is_direct(session) == 0, "in direct mode")
	whole := unsafe.Slice((*byte)(C.dsm_address(session)), int(C.dsm_size(session)))
	total := (*int64)(unsafe.Pointer(&whole[workers*part]))

	stop := make(chan bool)
	go func() { // garbage, and the collector at work
		var garbage [][]byte
		for {
			select {
			case <-stop:
				return
			default:
				garbage = append(garbage, make([]byte, 1000))
				if len(garbage) == 1000 {
					garbage = nil
					runtime.GC()
				}
			}
		}
	}()
	var group sync.WaitGroup
	for w := 0; w < workers; w++ {
		mine, seed := whole[w*part:(w+1)*part], byte(w+1)
		group.Add(1)
		go func() {
			defer group.Done()
			work(mine, seed, total)
		}()
	}
	group.Wait()
	stop <- true

	must(*total == 100*workers*(workers+1)/2, "total")
	for w := 0; w < workers; w++ {
		mine, seed := whole[w*part:(w+1)*part], byte(w+1)
		must(mine[0] == seed && mine[part-64] == seed && mine[part-1] == 0, "bytes")
		for i := 0; i < 5000; i++ {
			must(mine[1001+i] == byte(i)*seed, "text")
		}
		numbers := unsafe.Slice((*float64)(unsafe.Pointer(&mine[8192])), 500)
		for i, number := range numbers {
			must(number == float64(i), "numbers")
		}
	}

	// Go makes its system calls by itself, and the kernel cannot write to the map.
	file, err := os.Open("/proc/self/exe")
	must(err == nil, "open")
	_, err = file.Read(whole[:4])
	must(errors.Is(err, syscall.EFAULT), "no EFAULT")
	must(C.dsm_read(C.int(file.Fd()), unsafe.Pointer(&whole[0]), 4) == 4, "dsm_read")
	must(string(whole[:4]) == "\x7fELF", "what was read")

	if len(os.Args) > 1 && os.Args[1] == "fault" {
		address := uintptr(0x1234_5000)
		*(*int)(*(*unsafe.Pointer)(unsafe.Pointer(&address))) = 1
	}
	must(C.dsm_close(session) == C.DSM_OK, "dsm_close")
	fmt.Println("ok")
}
