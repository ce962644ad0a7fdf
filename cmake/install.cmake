# Installation: the command, the library, public headers, a CMake package (gorgon::gorgon), a .pc file.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)

set(GORGON_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/gorgon)

install(TARGETS gorgon EXPORT gorgonTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR})
install(TARGETS gorgon_cli RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(DIRECTORY include/gorgon DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
    FILES_MATCHING PATTERN "*.h")
install(EXPORT gorgonTargets NAMESPACE gorgon:: DESTINATION ${GORGON_CMAKE_DIR})

configure_package_config_file(cmake/gorgonConfig.cmake.in
    ${CMAKE_CURRENT_BINARY_DIR}/gorgonConfig.cmake INSTALL_DESTINATION ${GORGON_CMAKE_DIR})
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/gorgonConfigVersion.cmake
    COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/gorgonConfig.cmake
    ${CMAKE_CURRENT_BINARY_DIR}/gorgonConfigVersion.cmake cmake/FindBLIS.cmake
    DESTINATION ${GORGON_CMAKE_DIR})

# Relative, so that the installed tree may be moved.
file(RELATIVE_PATH GORGON_PC_TO_PREFIX /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/gorgon.pc.in gorgon.pc @ONLY)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/gorgon.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
